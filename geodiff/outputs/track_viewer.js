"use strict";
// The viewer of track_html.py: one canvas, a Mercator chart in degrees about an origin, everything drawn from typed arrays.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const STEP = 2e-7; // degrees of a stored position
  const KM_PER_DEG = 6371.0088 * Math.PI / 180;
  const KINDS = { i1: Int8Array, u1: Uint8Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array, f4: Float32Array };
  const unpack = (text, kind) => {
    const raw = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new KINDS[kind](raw.buffer);
  };
  const table = (packed, kinds) => {
    const out = {};
    for (const [name, kind] of Object.entries(kinds)) out[name] = unpack(packed[name], kind);
    out.size = out.x.length;
    return out;
  };
  const placed = { track: "i4", x: "i4", y: "i4", time: "u4" };
  const points = table(data.points, { ...placed, speed: "u2", state: "i1" });
  const dots = table(data.dots, { ...placed, speed: "u2", state: "i1", reason: "i4" });
  const members = table(data.members, { ...placed, line: "i4", state: "i1" });
  const ellipses = table(data.ellipses,
    { ...placed, level: "u1", major_km: "f4", minor_km: "f4", course_deg: "f4", lat_deg: "f4" });
  const coast = table(data.coast, { line: "i4", x: "f4", y: "f4" });
  const NO_SPEED = 65535, REJECTED = data.classes.indexOf("rejected");
  const ANOMALOUS = data.classes.indexOf("anomalous");
  const span = Math.max(1, data.end - data.start);

  // First and last vertex of each track; vertices of a track lie together.
  const first = new Int32Array(data.tracks.id.length).fill(-1), last = new Int32Array(first.length).fill(-1);
  for (let i = 0; i < points.size; i++) {
    if (first[points.track[i]] < 0) first[points.track[i]] = i;
    last[points.track[i]] = i;
  }

  const canvas = document.getElementById("chart"), pen = canvas.getContext("2d");
  const card = document.getElementById("card");
  const shown = data.classes.map(() => true);
  const layers = { members: true, ellipses: true };
  let width = 0, height = 0, scale = 1, cx = 0, cy = 0; // pixels per degree; centre relative to the origin
  let now = span, trail = Infinity, playing = false, queued = false, picked = -1;

  const px = (x) => (x - cx) * scale + width / 2;
  const py = (y) => height / 2 - (y - cy) * scale;
  const latitude = (y) => Math.atan(Math.sinh(y * Math.PI / 180)) * 180 / Math.PI;
  const northing = (lat) => Math.asinh(Math.tan(lat * Math.PI / 180)) * 180 / Math.PI;
  const two = (n) => String(n).padStart(2, "0");
  const clock = (seconds) => {
    const t = new Date((data.start + seconds) * 1000);
    return `${t.getUTCFullYear()}-${two(t.getUTCMonth() + 1)}-${two(t.getUTCDate())} ` +
      `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}:${two(t.getUTCSeconds())} UTC`;
  };
  const degrees = (value, letters, fine) => {
    if (letters === "EW") value = ((value + 180) % 360 + 360) % 360 - 180;
    const digits = fine ? 3 : 2, minutes = Number((Math.abs(value) * 60).toFixed(digits));
    const whole = Math.floor(minutes / 60 + 1e-9), rest = Number((minutes - whole * 60).toFixed(digits));
    const plain = minutes < 1e-6 || (letters === "EW" && minutes > 180 * 60 - 1e-6); // 0° and 180° lie on both sides
    const letter = plain ? "" : letters[value > 0 ? 0 : 1];
    return `${whole}°${rest > 0 ? `${fine ? rest.toFixed(digits) : rest}′` : ""}${letter}`;
  };

  function fit() {
    const [left, bottom, right, top] = data.extent;
    scale = Math.min(width / (right - left), height / (top - bottom));
    cx = (left + right) / 2 - data.origin[0];
    cy = (bottom + top) / 2 - data.origin[1];
  }

  function redraw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; draw(); });
  }

  function resize() {
    const box = canvas.getBoundingClientRect(), fresh = width === 0, dense = window.devicePixelRatio || 1;
    if (!box.width || !box.height) return;
    width = box.width;
    height = box.height;
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    if (fresh) fit();
    redraw();
  }

  const STEPS = [1 / 6000, 1 / 3000, 1 / 1200, 1 / 600, 1 / 300, 1 / 120, 1 / 60, 1 / 30, 1 / 12, 1 / 6, 0.25, 0.5, 1, 2, 5,
    10, 15, 30, 45];
  const roundStep = (range, most) => STEPS.find((s) => range / s <= most) || 90;

  function graticule() {
    const left = cx - width / 2 / scale + data.origin[0], right = cx + width / 2 / scale + data.origin[0];
    const south = latitude(cy - height / 2 / scale + data.origin[1]);
    const north = latitude(cy + height / 2 / scale + data.origin[1]);
    pen.strokeStyle = "#e1e7ec";
    pen.fillStyle = "#5d6975";
    pen.lineWidth = 1;
    pen.font = "11px system-ui, sans-serif";
    pen.beginPath();
    const dx = roundStep(right - left, width / 110), dy = roundStep(north - south, height / 80);
    const labels = [];
    for (let k = Math.ceil(left / dx); k * dx <= right && labels.length < 100; k++) {
      const x = px(k * dx - data.origin[0]);
      pen.moveTo(x, 0);
      pen.lineTo(x, height);
      labels.push([degrees(k * dx, "EW"), x + 3, height - 5]);
    }
    for (let k = Math.ceil(south / dy); k * dy <= north && labels.length < 200; k++) {
      const y = py(northing(k * dy) - data.origin[1]);
      pen.moveTo(0, y);
      pen.lineTo(width, y);
      labels.push([degrees(k * dy, "NS"), 4, y - 3]);
    }
    pen.stroke();
    for (const [text, x, y] of labels) pen.fillText(text, x, y);
  }

  function drawCoast() {
    if (!coast.size) return;
    pen.strokeStyle = "#8a8170";
    pen.lineWidth = 1;
    pen.beginPath();
    for (let i = 0; i < coast.size; i++) {
      if (i && coast.line[i] === coast.line[i - 1]) pen.lineTo(px(coast.x[i]), py(coast.y[i]));
      else pen.moveTo(px(coast.x[i]), py(coast.y[i]));
    }
    pen.stroke();
  }

  const inTime = (t) => t <= now && t >= now - trail;

  // Steps between fixes have the state of the one that was not observed.
  function drawLines() {
    const many = data.tracks.id.length, base = Math.min(2.4, Math.max(1, 3 - 0.5 * Math.log10(many + 1)));
    for (let state = 0; state < data.classes.length; state++) {
      if (!shown[state]) continue;
      pen.strokeStyle = data.colours[state];
      pen.globalAlpha = state === 0 && many > 50 ? 0.75 : 1;
      pen.lineWidth = state === 0 ? base : base * 1.25;
      pen.setLineDash(state === 0 || many > 50 ? [] : [7, 3]);
      pen.beginPath();
      let open = -1;
      for (let i = 1; i < points.size; i++) {
        if (points.track[i] !== points.track[i - 1] || (points.state[i] || points.state[i - 1]) !== state) continue;
        const t0 = points.time[i - 1], t1 = points.time[i];
        if (t0 > now || t1 < now - trail) continue;
        let x0 = points.x[i - 1] * STEP, y0 = points.y[i - 1] * STEP, x1 = points.x[i] * STEP, y1 = points.y[i] * STEP;
        if (t0 < now - trail && t1 > t0) {
          const share = (now - trail - t0) / (t1 - t0);
          x0 += share * (x1 - x0);
          y0 += share * (y1 - y0);
          open = -1;
        }
        if (t1 > now && t1 > t0) {
          const share = (now - t0) / (t1 - t0);
          x1 = points.x[i - 1] * STEP + share * (x1 - points.x[i - 1] * STEP);
          y1 = points.y[i - 1] * STEP + share * (y1 - points.y[i - 1] * STEP);
        }
        if (open !== i - 1) pen.moveTo(px(x0), py(y0));
        pen.lineTo(px(x1), py(y1));
        open = i;
      }
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.globalAlpha = 1;
  }

  function drawMembers() {
    if (!layers.members || !members.size) return;
    pen.globalAlpha = 0.25;
    pen.lineWidth = 1;
    for (let state = 0; state < data.classes.length; state++) {
      if (!shown[state]) continue;
      pen.strokeStyle = data.colours[state];
      pen.beginPath();
      for (let i = 1; i < members.size; i++) {
        if (members.line[i] !== members.line[i - 1] || members.state[i] !== state) continue;
        if (!inTime(members.time[i]) || !inTime(members.time[i - 1])) continue;
        pen.moveTo(px(members.x[i - 1] * STEP), py(members.y[i - 1] * STEP));
        pen.lineTo(px(members.x[i] * STEP), py(members.y[i] * STEP));
      }
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  function drawEllipses() {
    if (!layers.ellipses || !ellipses.size) return;
    pen.strokeStyle = "#2b2f36";
    pen.globalAlpha = 0.6;
    pen.lineWidth = 1;
    for (const level of [50, 90]) {
      pen.setLineDash(level === 90 ? [2, 3] : []);
      pen.beginPath();
      for (let i = 0; i < ellipses.size; i++) {
        if (ellipses.level[i] !== level || !inTime(ellipses.time[i])) continue;
        const perKm = scale / (KM_PER_DEG * Math.max(0.01, Math.cos(ellipses.lat_deg[i] * Math.PI / 180)));
        const x = px(ellipses.x[i] * STEP), y = py(ellipses.y[i] * STEP), reach = ellipses.major_km[i] * perKm;
        if (x + reach < 0 || x - reach > width || y + reach < 0 || y - reach > height || reach > 1e5) continue;
        const turn = (ellipses.course_deg[i] - 90) * Math.PI / 180;
        pen.moveTo(x + reach * Math.cos(turn), y + reach * Math.sin(turn));
        pen.ellipse(x, y, reach, ellipses.minor_km[i] * perKm, turn, 0, 2 * Math.PI);
      }
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.globalAlpha = 1;
  }

  function drawDots() {
    for (let state = 0; state < data.classes.length; state++) {
      if (!shown[state]) continue;
      pen.strokeStyle = pen.fillStyle = data.colours[state];
      pen.lineWidth = 1.3;
      pen.beginPath();
      for (let i = 0; i < dots.size; i++) {
        if (dots.state[i] !== state || !inTime(dots.time[i])) continue;
        const x = px(dots.x[i] * STEP), y = py(dots.y[i] * STEP);
        if (x < -5 || y < -5 || x > width + 5 || y > height + 5) continue;
        if (state === REJECTED) {
          pen.moveTo(x - 3, y - 3);
          pen.lineTo(x + 3, y + 3);
          pen.moveTo(x - 3, y + 3);
          pen.lineTo(x + 3, y - 3);
        } else if (state === ANOMALOUS) {
          pen.moveTo(x + 5, y);
          pen.arc(x, y, 5, 0, 2 * Math.PI);
        } else pen.rect(x - 1, y - 1, 2, 2);
      }
      pen.stroke();
    }
  }

  // Where a track is at the time of the slider: [x, y, vertex before], or null when it is not there then.
  function place(track) {
    let a = first[track], b = last[track];
    if (a < 0 || points.time[a] > now || points.time[b] < Math.max(0, now - (trail === Infinity ? span : trail))) return null;
    if (points.time[b] <= now) return [points.x[b] * STEP, points.y[b] * STEP, b];
    while (b - a > 1) {
      const middle = (a + b) >> 1;
      if (points.time[middle] <= now) a = middle; else b = middle;
    }
    const wait = points.time[b] - points.time[a], share = wait > 0 ? (now - points.time[a]) / wait : 0;
    return [(points.x[a] + share * (points.x[b] - points.x[a])) * STEP,
      (points.y[a] + share * (points.y[b] - points.y[a])) * STEP, a];
  }

  function drawVessels() {
    const size = data.tracks.id.length > 200 ? 1.6 : 4;
    for (let track = 0; track < first.length; track++) {
      const at = place(track);
      if (!at) continue;
      const x = px(at[0]), y = py(at[1]);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      const state = points.state[at[2]];
      if (!shown[state]) continue;
      pen.beginPath();
      pen.arc(x, y, size, 0, 2 * Math.PI);
      pen.fillStyle = data.colours[state];
      pen.fill();
      if (size > 2) {
        pen.strokeStyle = "#fff";
        pen.lineWidth = 1.2;
        pen.stroke();
      }
    }
  }

  function drawPicked() {
    if (picked < 0 || picked >= points.size) return;
    const track = points.track[picked];
    pen.strokeStyle = "#111";
    pen.lineWidth = 1.2;
    pen.beginPath();
    for (let i = first[track]; i <= last[track]; i++) {
      const x = px(points.x[i] * STEP), y = py(points.y[i] * STEP);
      if (i === first[track]) pen.moveTo(x, y); else pen.lineTo(x, y);
    }
    pen.stroke();
    pen.beginPath();
    pen.arc(px(points.x[picked] * STEP), py(points.y[picked] * STEP), 5, 0, 2 * Math.PI);
    pen.stroke();
  }

  function scaleBar() {
    const lat = latitude(cy + data.origin[1]);
    const pixelKm = KM_PER_DEG * Math.cos(lat * Math.PI / 180) / scale;
    const most = pixelKm * Math.min(220, width / 3), power = 10 ** Math.floor(Math.log10(most));
    const km = [5, 2, 1].map((k) => k * power).find((k) => k <= most) || power;
    const x = 76, y = height - 30, long = km / pixelKm;
    pen.strokeStyle = pen.fillStyle = "#1d2733";
    pen.lineWidth = 3;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(x + long, y);
    pen.stroke();
    pen.font = "12px system-ui, sans-serif";
    pen.fillText(km < 1 ? `${Number((km * 1000).toPrecision(1))} m` : `${Number(km.toPrecision(1))} km`, x, y - 6);
    pen.fillText("N", x, 26);
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(x + 4, 48);
    pen.lineTo(x + 4, 32);
    pen.moveTo(x, 37);
    pen.lineTo(x + 4, 31);
    pen.lineTo(x + 8, 37);
    pen.stroke();
  }

  function draw() {
    pen.fillStyle = "#f7fafc";
    pen.fillRect(0, 0, width, height);
    graticule();
    drawCoast();
    drawMembers();
    drawEllipses();
    drawLines();
    drawDots();
    drawVessels();
    drawPicked();
    scaleBar();
  }

  function nearest(mx, my) {
    let best = 12 * 12, found = null;
    const x = (mx - width / 2) / scale + cx, y = (height / 2 - my) / scale + cy, unit = (STEP * scale) ** 2;
    // Of two in one place the dot, which has a reason.
    for (const [what, from] of [["dots", dots], ["points", points]]) {
      for (let i = 0; i < from.size; i++) {
        if (!shown[from.state[i]] || !inTime(from.time[i])) continue;
        const d = ((from.x[i] - x / STEP) ** 2 + (from.y[i] - y / STEP) ** 2) * unit;
        if (d < best) { best = d; found = [what, i]; }
      }
    }
    return found;
  }

  function describe(found, mx, my) {
    card.replaceChildren();
    card.hidden = !found;
    picked = found && found[0] === "points" ? found[1] : -1;
    if (!found) return;
    const from = found[0] === "points" ? points : dots, i = found[1], track = from.track[i];
    const line = (tag, text) => {
      const element = document.createElement(tag);
      element.textContent = text; // never markup: names come from strangers
      card.append(element);
    };
    const tracks = data.tracks, known = track >= 0;
    line("b", known && (tracks.name[track] || tracks.vessel[track]) || "no track");
    if (known) line("span", `track ${tracks.id[track]}`);
    if (known && tracks.type[track] !== null) line("span", `ship type ${tracks.type[track]}`);
    line("span", clock(from.time[i]));
    const speed = from.speed[i] === NO_SPEED ? "speed unknown" : `${(from.speed[i] / 10).toFixed(1)} kn`;
    line("span", `${data.classes[from.state[i]]}, ${speed}`);
    if (from === dots && data.reasons[dots.reason[i]]) line("span", data.reasons[dots.reason[i]]);
    const lat = latitude(from.y[i] * STEP + data.origin[1]), lon = from.x[i] * STEP + data.origin[0];
    line("span", `${degrees(lat, "NS", true)} ${degrees(lon, "EW", true)}`);
    card.style.left = `${Math.max(4, Math.min(mx + 14, width - card.offsetWidth - 4))}px`;
    card.style.top = `${Math.max(4, Math.min(my + 14, height - card.offsetHeight - 4))}px`;
  }

  function zoom(mx, my, factor) {
    const next = Math.min(5e7, Math.max(width / 720, scale * factor));
    cx += (mx - width / 2) * (1 / scale - 1 / next);
    cy -= (my - height / 2) * (1 / scale - 1 / next);
    scale = next;
    redraw();
  }

  const held = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.offsetX, event.offsetY]);
    canvas.classList.add("dragging");
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId), mx = event.offsetX, my = event.offsetY;
    if (!before) {
      describe(nearest(mx, my), mx, my);
      return redraw();
    }
    if (held.size === 2) {
      const other = [...held].find(([id]) => id !== event.pointerId)[1];
      const was = Math.hypot(before[0] - other[0], before[1] - other[1]), is = Math.hypot(mx - other[0], my - other[1]);
      if (was > 0 && is > 0) zoom((mx + other[0]) / 2, (my + other[1]) / 2, is / was);
    } else {
      cx -= (mx - before[0]) / scale;
      cy += (my - before[1]) / scale;
      redraw();
    }
    held.set(event.pointerId, [mx, my]);
  });
  const release = (event) => {
    held.delete(event.pointerId);
    if (!held.size) canvas.classList.remove("dragging");
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => { describe(null); redraw(); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.offsetX, event.offsetY, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoom(event.offsetX, event.offsetY, 2));
  canvas.addEventListener("keydown", (event) => {
    const step = 60 / scale;
    const act = {
      ArrowLeft: () => { cx -= step; }, ArrowRight: () => { cx += step; },
      ArrowUp: () => { cy += step; }, ArrowDown: () => { cy -= step; },
      "+": () => zoom(width / 2, height / 2, 1.5), "-": () => zoom(width / 2, height / 2, 1 / 1.5), 0: fit,
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
    redraw();
  });

  function make(tag, properties, parent) {
    const element = Object.assign(document.createElement(tag), properties);
    if (parent) parent.append(element);
    return element;
  }

  function buildPanel() {
    const panel = document.getElementById("panel");
    const row = (text, colour, number, change) => {
      const label = make("label", {}, panel);
      const box = make("input", { type: "checkbox", checked: true }, label);
      if (colour) make("i", { className: "swatch" }, label).style.background = colour;
      make("span", { textContent: text }, label);
      if (number) make("span", { className: "number", textContent: number.toLocaleString("en") }, label);
      box.addEventListener("change", () => { change(box.checked); redraw(); });
    };
    data.classes.forEach((name, state) => {
      if (data.counts[state]) row(name, data.colours[state], data.counts[state], (on) => { shown[state] = on; });
    });
    if (members.size) row("members of ensembles", null, 0, (on) => { layers.members = on; });
    if (ellipses.size) row("regions of 50 and 90 %", null, 0, (on) => { layers.ellipses = on; });
    const buttons = make("div", { className: "buttons" }, panel);
    const press = (text, title, act) => make("button", { type: "button", textContent: text, title }, buttons)
      .addEventListener("click", () => { act(); redraw(); });
    press("+", "closer (+)", () => zoom(width / 2, height / 2, 1.6));
    press("−", "farther (-)", () => zoom(width / 2, height / 2, 1 / 1.6));
    press("all", "show all (0)", fit);
  }

  function buildClock() {
    const footer = document.getElementById("clock");
    const play = make("button", { type: "button", textContent: "▶", title: "play" }, footer);
    const slider = make("input", { type: "range", min: 0, max: span, step: "any", value: span, ariaLabel: "time" }, footer);
    const output = make("output", {}, footer);
    const choose = make("select", { title: "how much of the past is drawn" }, footer);
    for (const [text, seconds] of [["whole past", Infinity], ["last 10 min", 600], ["last hour", 3600],
      ["last 6 h", 21600], ["last day", 86400]]) {
      make("option", { textContent: text, value: String(seconds) }, choose);
    }
    const set = (value) => {
      now = Math.min(span, Math.max(0, value));
      slider.value = now;
      output.textContent = clock(now);
      redraw();
    };
    let before = 0;
    const tick = (stamp) => {
      if (!playing) return;
      // The whole time in 30 s.
      set(now + Math.min(100, stamp - before) / 30000 * span);
      before = stamp;
      if (now >= span) return toggle();
      requestAnimationFrame(tick);
    };
    const toggle = () => {
      playing = !playing;
      play.textContent = playing ? "❚❚" : "▶";
      if (!playing) return;
      if (now >= span) set(0);
      before = performance.now();
      requestAnimationFrame(tick);
    };
    play.addEventListener("click", toggle);
    slider.addEventListener("input", () => set(Number(slider.value)));
    choose.addEventListener("change", () => { trail = Number(choose.value); redraw(); });
    set(span);
  }

  buildPanel();
  buildClock();
  new ResizeObserver(resize).observe(canvas);
  resize();
})();

"""From settings to a recipe: how a model is set for a run, and what the run's layers then say."""

from __future__ import annotations

from typing import Any

from geodiff.config import RestoreConfig
from geodiff.grid import TilePlan
from geodiff.model.guided import GuidedResolver
from geodiff.model.resolver import DiffusionResolver
from geodiff.outputs.store_layout import INTERVAL, NO_INTERVAL
from geodiff.schema import Resolver
from geodiff.tasks.windows import Recipe

GUESSED = "guessed"


def tuned(resolver: Resolver, config: RestoreConfig) -> Resolver:
    """The model with the level of its intervals and the dial of its members; a baseline has neither.

    Raises:
        UsageError: a level that the model was not calibrated for.
    """
    if not isinstance(resolver, DiffusionResolver | GuidedResolver):
        return resolver
    return resolver.tuned(level=config.level, dial=config.dial)


def members_of(resolver: Resolver, config: RestoreConfig) -> int:
    """How many members a run draws: none of a model that tells one picture alone."""
    return config.ensemble if _draws(resolver) else 0


def _draws(resolver: Resolver) -> bool:
    return not getattr(resolver, "deterministic", False) and getattr(resolver, "passes", 2) > 1


def recipe_of(resolver: Resolver, plan: TilePlan, config: RestoreConfig) -> Recipe:
    """What a run restores of each date."""
    return Recipe(
        resolver,
        plan,
        config.ensemble,
        config.seed,
        keep_member=config.keep_member,
        keep_guessed=GUESSED in config.layers,
        level=config.level,
    )


def cube_layers(recipe: Recipe) -> list[str]:
    """Names of the layers that have bands, in the order of the recipe's channels."""
    return ["reflectance", "uncertainty", *(["member"] if recipe.keep_member else [])]


def describe_layers(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Attributes of layers that depend on the settings."""
    found = {"uncertainty": uncertainty_attributes(recipe.resolver, recipe.level, recipe.members)}
    if recipe.keep_member:
        dial = getattr(recipe.resolver, "dial", 1.0)
        drawn = f"reflectance + {dial:g} * (sample - reflectance)"
        told = drawn if _draws(recipe.resolver) else "the reflectance itself: the model draws no members"
        found["member"] = {"geodiff:dial": dial, "comment": told}
    return found


def uncertainty_attributes(resolver: Resolver, level: float, members: int) -> dict[str, Any]:
    """What the uncertainty of an ensemble is: of which level, and for what the model was calibrated."""
    if getattr(resolver, "deterministic", False):
        told = "the model draws no members and was not calibrated: it tells no uncertainty"
        return {"long_name": "half-width of an interval of reflectance", INTERVAL: NO_INTERVAL, "comment": told}
    table = resolver.intervals if isinstance(resolver, DiffusionResolver | GuidedResolver) else None
    how = "normal: a multiple of the root mean square deviation of the members, not calibrated"
    if table is not None:
        how = "conformal, calibrated on places that the training never saw"
        if _draws(resolver) and members != table.members:
            holds = "less" if members < table.members else "more"
            how += f", with {table.members} members: of an ensemble of {members} it holds rather {holds}"
    return {
        "long_name": f"half-width of the {level:.0%} interval of reflectance",
        "geodiff:level": level,
        INTERVAL: "normal" if table is None else "conformal",
        "comment": f"the truth lies within reflectance +- uncertainty with probability {level:g}; {how}",
    }

"""From a STAC query to a lazy, masked, calibrated cube; arrays only, no network of neurons."""

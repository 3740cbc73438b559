"""Vessels: AIS and radar read, cleaned and cut into tracks. Array side: no torch."""

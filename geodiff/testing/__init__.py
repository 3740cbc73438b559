"""Synthetic scenes whose truth is known, fakes and strategies, for tests and for the demo."""

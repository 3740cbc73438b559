"""The version of the package: read by the build, stored in every output."""

__version__ = "0.1.0"

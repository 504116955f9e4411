"""Packages to install, models to get."""

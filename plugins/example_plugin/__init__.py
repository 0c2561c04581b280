"""A plugin to begin from: four tools over a small file of invented dealers."""

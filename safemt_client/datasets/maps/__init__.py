"""Declarative maps: data sets in any form, read by a TOML file that says which field means what."""

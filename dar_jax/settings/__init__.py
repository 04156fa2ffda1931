"""How settings are written and read, for every room: field types (fields.py), YAML files and overrides as plain
values (yaml_settings.py, yaml_text.py, interpolation.py, hints.py), and messages about what was refused
(refusals.py, foreign_names.py, arguments.py). Nothing here imports jax.
"""

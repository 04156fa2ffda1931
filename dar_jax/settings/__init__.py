"""Settings: their field types, their files and overrides, and the messages about what is refused. No jax.

fields.py          field types; which settings a resume may change
yaml_settings.py   YAML files and `key.sub=value` overrides to plain values, by the types of the settings
yaml_text.py       YAML text to plain values and back; interpolation.py: `${key.sub}`
hints.py           the type hints of settings
packaged.py        configs that come with the package; arguments.py: settings among a command's arguments
refusals.py        one line for each setting refused; foreign_names.py: TRL's names and ours
"""

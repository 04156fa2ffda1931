"""The settings of a run (run_config.py) and the files that hold them (config_file.py)."""

"""The settings of a run, composed of those of every room (run_config.py), and the files that hold them
(config_file.py).
"""

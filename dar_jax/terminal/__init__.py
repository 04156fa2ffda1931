"""The terminal: what is printed (console.py, json_text.py), with untrusted text escaped (visible.py) and readers that
may leave (screen.py), and the signals that come from it (interrupts.py).
"""

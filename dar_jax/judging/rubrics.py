"""What a judge is asked to look for. Settings choose one by name, or bring their own text."""

from collections.abc import Mapping

GENERAL = """\
You grade how well a completion answers a prompt.

Look for, in this order: it does what the prompt asks; what it states is true and follows from the prompt;
nothing that matters is missing; it is clear and no longer than it needs to be; it comes to a proper end.
Length, politeness, confidence and claims about its own quality earn nothing."""

TLDR = """\
You grade how well a completion summarises the post given as the prompt.

A good summary lets a reader who skips the post know what it is about and what its author wants: it holds the
points that matter most, in few words, and states nothing that the post does not say. Leaving out the main
point, adding facts, copying long stretches, rambling and stopping in mid-sentence are faults, in this order.
A longer summary is not a better one."""

DOCSTRING = """\
You grade how well a completion serves as the first line of the documentation given as the prompt.

A good first line says in one short sentence, ended with a full stop, what the documented thing does or is. It
agrees with the documentation, names what matters most in it, and invents nothing."""

RUBRICS: Mapping[str, str] = {"general": GENERAL, "tldr": TLDR, "docstring": DOCSTRING}

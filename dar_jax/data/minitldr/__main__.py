"""Write the tokenizer of the mini TL;DR: `python -m dar_jax.data.minitldr FOLDER`."""

import sys

from dar_jax.data.minitldr.vocabulary import write_tokenizer

if len(sys.argv) != 2:
    sys.exit("usage: python -m dar_jax.data.minitldr FOLDER")
write_tokenizer(sys.argv[1])

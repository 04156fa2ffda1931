"""`python -m dar_jax` is `dar-jax`."""

import sys

from dar_jax.cli.main import main

sys.exit(main())

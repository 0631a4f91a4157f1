"""``python -m clipzoo.cli COMMAND …``, the same as the console script."""

from clipzoo.cli import main

main()

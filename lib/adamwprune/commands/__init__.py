"""The commands: ``python -m adamwprune COMMAND``; one module each, a docstring and a ``main()``."""

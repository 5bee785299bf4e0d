"""The only reader of Kconfig: strict loading, typed values, flags, the menus."""

"""The methods: one module and one Kconfig entry each."""

"""The methods: one module and one Kconfig entry each."""

from adamwprune.base import registry

registry.extend(__name__, __path__)

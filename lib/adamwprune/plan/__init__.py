"""From a configuration to the runs of its matrix; never imports torch."""

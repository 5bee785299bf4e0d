"""Records → groups of seeds → tables and figures. Pure functions of records; never torch."""

"""How a step is computed: which parameters are trained now, and exact ways to a gradient that costs less memory or time."""

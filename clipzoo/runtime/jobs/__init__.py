"""Several processes side by side on one machine: their shares, their memory, when each starts, and what they say."""

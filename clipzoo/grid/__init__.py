"""Many training runs: jobs, their processes, and the leaderboard."""

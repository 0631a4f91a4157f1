"""What a frozen tower has seen: features kept on disk, found by everything that decides them."""

"""Does LUAB help on real photos, and why? Runs with their controls, and what they show with intervals."""

"""`make bench-pacing`: how much of a limit is used, and how often the limit is hit, beside what people write instead.

Read `cases` first (what is compared), then `measuring` (how), then the systems: `ours`, `light_workers`, `baselines`.
"""

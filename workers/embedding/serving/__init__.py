"""The embedding service: one model over HTTP, in the format of OpenAI's clients.

body -> request -> inputs -> cache -> lane (admission) -> model -> BF16 rounding -> answer
                               └── all hits ─────────────────────────┘
"""

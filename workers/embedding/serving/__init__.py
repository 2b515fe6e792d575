"""The embedding service: one model behind HTTP, in the format of OpenAI's clients.

body -> request -> inputs -> cache -> lane (admission) -> model -> rounded -> answer
                               └── all hits ─────────────────────────┘
"""

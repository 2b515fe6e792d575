"""`pagemill mcp`: Pagemill's documents for agents, over the Model Context Protocol."""

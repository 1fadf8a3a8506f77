"""PostgreSQL: state, configuration, output binding. The only folder that imports asyncpg."""

"""Everything that is kept in SQLite, through apsw alone."""

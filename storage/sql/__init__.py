"""The store in a database: the only SQLAlchemy beside the migrations."""

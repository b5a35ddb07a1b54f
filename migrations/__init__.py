"""The steps that bring a database to today's tables; made by models.migrating.make, run by `migrate` alone."""

"""What billing promises to do at the provider after a commit; harmless when done twice."""

from realtime.jobs import put_down

SEATS = "billing-seats"  # {account_id}: bring the number of seats to the number of members
END = "billing-end"  # {account_id, subscription_id}: end what was not paid, void what is open of it
TRIAL = "billing-trial"  # {account_id}: give a new organization its subscription
RECONCILE = "billing-reconcile"  # {}: make up for deliveries that were lost

__all__ = ["END", "RECONCILE", "SEATS", "TRIAL", "put_down"]

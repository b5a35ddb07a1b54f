"""A peer that speaks the vendor's wire format, for every mode without an account there: trials, invoices and declines offline."""

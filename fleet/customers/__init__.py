"""Customers and the apps they use: three ways to keep their accounts, activation, consent."""

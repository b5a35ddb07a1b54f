"""What the contract promises and is not built yet, with the reason: places as tests/laws/contract.py names them.

The law fails for whatever stands here and exists, so that the list only shrinks.
"""

LATER: dict[str, str] = {
    "staged rollouts come with their own issue": """
        Mutation.abortRollout Mutation.approveRollout Mutation.pauseRollout Mutation.resumeRollout Mutation.startRollout
        Product.rollouts Subscription.rolloutProgress
    """,
    "plans of a release come with the rollouts": """
        Query.planRelease ReleaseFirmwareInput.planToken
    """,
    "customers who sign in themselves come with the customers' issue": """
        Mutation.claimDevice Mutation.createClaimCode Mutation.createCustomerToken Mutation.createOAuthClient
        Mutation.deleteOAuthClient Mutation.importCustomers Mutation.logInCustomer Mutation.signUpCustomer Viewer.customer
    """,
    "groups as walls come with the customers' issue": """
        DeviceGroup.access Mutation.grantGroupAccess Mutation.revokeGroupAccess
    """,
}

"""The people: subscribers, their subscriptions and memberships, and what they agreed to (`consent`)."""

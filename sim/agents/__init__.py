"""The other road users: models of drivers, people who are triggered, recorded tracks and whole towns of traffic."""

"""A stand-in for Twilio, SendGrid and FCM on the loopback, with a ledger of what it accepted and faults on request."""

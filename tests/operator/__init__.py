"""The pages for people, in a real browser at the size of a phone, and for those who should not be there."""

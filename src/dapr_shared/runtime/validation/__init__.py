"""`dapr-shared validate`: resource files held against everything that an instance would hold them against."""

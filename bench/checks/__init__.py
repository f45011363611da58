"""What can be asked of a method, a record, a store and a machine: is it as it should be?"""

"""Draft heads: small modules on a frozen encoder that write a CTC draft in a vocabulary of their own."""

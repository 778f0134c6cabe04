"""A local Bitrix24 portal to develop DAGs against without touching money."""

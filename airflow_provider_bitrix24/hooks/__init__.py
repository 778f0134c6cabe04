"""The Airflow hook of the connection type `bitrix24`."""

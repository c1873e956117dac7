"""The frozen records that cross from one stage to the next. Validated on construction, trusted ever after."""

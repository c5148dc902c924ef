//! One request, from plan to outcome. Pure: values in, values and effects out.

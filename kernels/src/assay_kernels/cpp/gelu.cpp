#include "gelu.hpp"

#include "mel.hpp"

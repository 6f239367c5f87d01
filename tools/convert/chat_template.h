// Which of the runtime's chat formats a model's own Jinja template is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace headroom::convert {

// The name of the format that the template renders for plain conversations, or empty: a template
// that is not known for sure is not guessed.
std::string RecogniseChatTemplate(std::string_view jinja);

// Every name that RecogniseChatTemplate can give.
std::vector<std::string> RecognisedChatFormats();

}  // namespace headroom::convert

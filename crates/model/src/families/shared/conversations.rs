//! Chat templates of folders that only name a conversation of their publisher's code.

/// The conversations that OpenGVLab's code builds by name.
pub(in crate::families) fn internvl(name: &str) -> Result<String, String> {
    let first = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。";
    let second = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。";
    // What stands before and after the name of who speaks, and at the end of what is said.
    let (system, [before, after, end]) = match name {
        "internlm2-chat" => (first, ["<|im_start|>", "", "<|im_end|>"]),
        "phi3-chat" => (first, ["<|", "|>", "<|end|>"]),
        "internvl2_5" | "Hermes-2" => (second, ["<|im_start|>", "", "<|im_end|>\\n"]),
        other => {
            return Err(format!(
                "template is {other:?}, expected internlm2-chat, internvl2_5, Hermes-2 or phi3-chat"
            ));
        }
    };
    Ok(format!(
        "{{{{ '{before}system{after}\\n{system}{end}' }}}}{{% for m in messages %}}{{{{ '{before}' + m['role'] + '{after}\\n' }}}}\
         {{% if m['content'] is string %}}{{{{ m['content'] }}}}{{% else %}}{{% for c in m['content'] %}}\
         {{% if c['type'] == 'image' %}}{{{{ '<image>\\n' }}}}{{% else %}}{{{{ c['text'] }}}}{{% endif %}}{{% endfor %}}\
         {{% endif %}}{{{{ '{end}' }}}}{{% endfor %}}{{% if add_generation_prompt %}}{{{{ '{before}assistant{after}\\n' }}}}{{% endif %}}"
    ))
}
